"""Settings of the rendering service."""

from dataclasses import dataclass
from pathlib import Path

from luthier_kit.bounded_yaml import MAX_BYTES
from luthier_kit.rpc import ServiceSettings, setting
from luthier_kit.store import StoreSettings
from luthier_rendering.backends.base import BackendConfig
from luthier_rendering.smf import MidiLimits

_DEFAULT = MidiLimits()


@dataclass(frozen=True)
class RenderingSettings(ServiceSettings, StoreSettings):
    """Settings of every service, and those of rendering."""

    backend: str = setting(
        "LUTHIER_BACKEND",
        default="soundfont",
        choices=("soundfont", "map", "vst3"),
        help="of requests that name none; vst3 is the older name of map",
    )
    soundfont: str = setting(
        "LUTHIER_SOUNDFONT", default="", path="file", help="an .sf2 or .sf3; empty = the packaged one"
    )
    soundfont_licence: str = setting(
        "LUTHIER_SOUNDFONT_LICENCE", default="", help="what it is under, e.g. CC0-1.0; recorded in every lineage"
    )
    soundfont_path: str = setting(
        "LUTHIER_SOUNDFONT_PATH", default="", path="folder", help="of SoundFonts that the instrument map names"
    )
    vst3_path: str = setting(
        "LUTHIER_VST3_PATH", default="", path="folder", help="of VST3 bundles and presets; empty = no plugins"
    )
    instrument_map: str = setting(
        "LUTHIER_INSTRUMENT_MAP", default="", path="file", help="YAML: what plays which programs; empty = the packaged"
    )
    vst3_map: str = setting(
        "LUTHIER_VST3_MAP", default="", help="no longer read: LUTHIER_INSTRUMENT_MAP took its place"
    )
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
        if self.instrument_map:
            with Path(self.instrument_map).open("rb") as file:
                text = file.read(MAX_BYTES + 1)  # one too many is refused with the rest that is wrong with a map
        return BackendConfig(
            self.soundfont,
            self.soundfont_path,
            self.vst3_path,
            text.decode(errors="surrogateescape"),
            str(self.scratch / "soundfonts"),
            self.soundfont_licence,
        )

    def faults(self) -> list[str]:
        moved = "LUTHIER_VST3_MAP is no longer read: LUTHIER_INSTRUMENT_MAP names a YAML file, see the service's README"
        return [*super().faults(), *([moved] if self.vst3_map else [])]
