"""Train methods side by side and see what memorization sinks do; `--help` lists all flags."""

from memsinks_np.experiments.cli import script

if __name__ == "__main__":
    script()
