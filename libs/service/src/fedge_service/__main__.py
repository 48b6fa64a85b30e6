"""``python -m fedge_service NAME...``: run services, with nothing but their own packages installed.

What the container images start; people have ``fedge run``, which does the same.
"""

import sys

from fedge_service import run_services

run_services(sys.argv[1:])
