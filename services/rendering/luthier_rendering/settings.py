"""Settings of the rendering service."""

from dataclasses import dataclass
from pathlib import Path

from luthier_kit.rpc import ServiceSettings, setting
from luthier_kit.store import StoreSettings
from luthier_rendering.backends.base import MAX_MAP_BYTES, BackendConfig
from luthier_rendering.smf import MidiLimits

_DEFAULT = MidiLimits()


@dataclass(frozen=True)
class RenderingSettings(ServiceSettings, StoreSettings):
    """Settings of every service, and those of rendering."""

    backend: str = setting(
        "LUTHIER_BACKEND",
        default="soundfont",
        choices=("soundfont", "vst3"),
        help="of requests that name none",
    )
    soundfont: str = setting("LUTHIER_SOUNDFONT", default="", path="file", help="an .sf2; empty = the packaged one")
    vst3_path: str = setting("LUTHIER_VST3_PATH", default="", path="folder", help="of VST3 bundles; empty = no plugins")
    vst3_map: str = setting("LUTHIER_VST3_MAP", default="", path="file", help="a plugin map; empty = the packaged one")
    render_timeout_s: float = setting(
        "LUTHIER_RENDER_TIMEOUT_S", default=900.0, low=1, high=86400, help="longest time that one song may take"
    )
    songs_per_worker: int = setting(
        "LUTHIER_SONGS_PER_WORKER", default=50, low=1, high=100_000, help="songs after which a worker is replaced"
    )
    max_song_s: float = setting(
        "LUTHIER_MAX_SONG_S", default=_DEFAULT.duration_s, low=1, high=7200, help="longest song in seconds"
    )
    max_notes: int = setting(
        "LUTHIER_MAX_NOTES", default=_DEFAULT.notes, low=1, high=2_000_000, help="most notes in a song"
    )

    @property
    def limits(self) -> MidiLimits:
        """Bounds of what is rendered."""
        return MidiLimits(duration_s=self.max_song_s, notes=self.max_notes)

    @property
    def backends(self) -> BackendConfig:
        """What the back ends are configured by."""
        text = b""
        if self.vst3_map:
            with Path(self.vst3_map).open("rb") as file:
                text = file.read(MAX_MAP_BYTES + 1)  # one too many is refused with the rest that is wrong with a map
        return BackendConfig(self.soundfont, self.vst3_path, text.decode(errors="replace"))
