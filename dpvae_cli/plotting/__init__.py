"""Figures from result records only: arrays and JSON in, matplotlib figures out.

This room knows neither torch nor models. Every function returns a `matplotlib.figure.Figure`;
nothing here touches pyplot, a display or the caller's rcParams. `style.save` writes them.
"""
