"""Train methods side by side and see what memorization sinks do; `--help` lists all flags."""

import os
import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # no traceback during the imports
    from memsinks_np.experiments.cli import script

    script()
