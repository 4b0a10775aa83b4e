"""`python -m local_aws`: see :mod:`local_aws.commands.cli`."""

import sys

from local_aws.commands.cli import main

sys.exit(main())
