"""``python -m retinacodec`` is the command line."""

from retinacodec.cli import main

main()
