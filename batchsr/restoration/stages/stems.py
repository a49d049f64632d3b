"""Music is separated into stems for the model, which restores each apart; the joiner sums them again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from batchsr.audio.treatment import Treatment
from batchsr.audio.windows import Block
from batchsr.models import separator, stem_networks
from batchsr.models.stem_networks import Network
from batchsr.restoration.stages.entries import part
from batchsr.restoration.stages.interface import Listening, Position, Quiet
from batchsr.settings.profile import Settings

if TYPE_CHECKING:
    from batchsr.restoration.spool import Spool


@dataclasses.dataclass(frozen=True, slots=True)
class Stems(Quiet):
    """Separates, in what the recording keeps of it (batchsr.models.separator); this says so."""

    network: Network
    restored: bool = True
    """Whether the model restores them; not those of a full-band recording."""
    name: str = "stems"
    version: int = separator.VERSION
    position: Position = "model"
    context_samples: int = 0
    """Of this function; the chunks are the separator's."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What computes."""
        return {
            "network": self.network.name,
            "network_sha256": self.network.sha256,
            "revision": self.network.revision,
            "stems": list(separator.STEMS),
        }

    @property
    def measured(self) -> Mapping[str, Any]:
        """That no model touched them, where none did."""
        return {} if self.restored else {"restored": False}

    def channels(self, channels: int) -> int:
        """Return as many for each stem."""
        return len(separator.STEMS) * channels

    def run(self, blocks: Iterator[Block], total_samples: int) -> Iterator[Block]:
        """Yield the stream as it is: the recording separates in front of all stages of its position."""
        return blocks


def network(treatment: Treatment) -> Network | None:
    """Return the network that separates; None where that is not asked for."""
    found = treatment.decided.get("stems")
    return found if isinstance(found, Network) else None


def decide(recording: Listening, treatment: Treatment) -> Network | None:
    """Find the network; nothing has to be known of the recording. Raises StageFailed without it."""
    settings = recording.settings
    return None if settings.stems == "off" else stem_networks.find(settings.stems_network)


def made(settings: Settings, treatment: Treatment, rate_hz: float, filled: Spool | None) -> Stems | None:
    """Return the stage where stems are asked for, and needed: what is only resampled is not separated for its mix."""
    found = network(treatment)
    if found is None or (treatment.bypass and settings.stems == "mix"):
        return None
    return Stems(found, restored=not treatment.bypass)


def fact(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Return what separated."""
    what = "restored apart" if _restored(entry) else "written apart and not restored"
    return "Stems", f"{what}, as {part(entry, 'settings').get('network')} separates them"


def sentence(entry: Mapping[str, Any]) -> str:
    """Return what was done, with the network."""
    settings = part(entry, "settings")
    became = "restored apart and summed again" if _restored(entry) else "written each by itself and not restored"
    return (
        f"Its stems were separated by {settings.get('network')} (SHA-256 {settings.get('network_sha256')}), {became}."
    )


def _restored(entry: Mapping[str, Any]) -> bool:
    return part(entry, "found").get("restored") is not False
