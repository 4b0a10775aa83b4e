"""`python -m local_aws.server`: see :mod:`local_aws.server.startup`."""

import sys

from local_aws.server.startup import main

sys.exit(main())
