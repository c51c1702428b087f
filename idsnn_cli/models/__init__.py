"""Networks as modules, whatever their family: built from a description, identified, loaded."""

from idsnn_cli.models.amplitudes import fold_amplitudes, require_amplitudes
from idsnn_cli.models.base import Model
from idsnn_cli.models.building import build, first_state, first_value, per_step, place, prolonged, require_beyond
from idsnn_cli.models.channels import fitted, mean_frame, require_values
from idsnn_cli.models.identify import Network, described_in, floating, identify, identify_tensors
from idsnn_cli.models.kinds import GIVE_CONSTANTS
from idsnn_cli.models.loading import assemble, load, load_identified
from idsnn_cli.models.saving import save
from idsnn_cli.spiking.qcfs import QCFS

__all__ = [
    "GIVE_CONSTANTS",
    "QCFS",
    "Model",
    "Network",
    "assemble",
    "build",
    "described_in",
    "first_state",
    "first_value",
    "fitted",
    "floating",
    "fold_amplitudes",
    "identify",
    "identify_tensors",
    "load",
    "load_identified",
    "mean_frame",
    "per_step",
    "place",
    "prolonged",
    "require_amplitudes",
    "require_beyond",
    "require_values",
    "save",
]
