"""The program gpu-gan, which trains GANs on images. `python -m gpu_gan` runs it; there is no other interface for Python."""

import os
import sysconfig


def find_program():
    """The path of the program that was installed with this package.

    Raises FileNotFoundError if it is in none of the folders where pip puts programs.
    """
    name = "gpu-gan" + (sysconfig.get_config_var("EXE") or "")
    user_scheme = sysconfig.get_preferred_scheme("user") if hasattr(sysconfig, "get_preferred_scheme") else os.name + "_user"
    # `pip install --target FOLDER` puts programs into FOLDER/bin, beside the package.
    beside = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "bin")
    folders = [sysconfig.get_path("scripts"), sysconfig.get_path("scripts", scheme=user_scheme), beside]
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return path
    raise FileNotFoundError(f"{name} is in none of {', '.join(folders)}; install it again: pip install --force-reinstall gpu-gan")
