"""Run the command line as `python -m dpvae_cli`."""

from dpvae_cli.cli.app import main

if __name__ == "__main__":
    main()
