"""What a server listens on, whom it answers, and how much of the machine a request may take."""

import ipaddress
from dataclasses import dataclass, fields
from urllib.parse import urlsplit

from muomni.inference.decoding.options import MAX_SEED
from muomni.inference.tts.speech_plan import check_look_ahead

MIB = 2**20
ANY_NAME = "*"


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Options of conf/serve.yaml that concern HTTP. Raises ValueError naming the option for a value out of range, and for an
    address other than loopback without a key."""

    host: str = "127.0.0.1"
    port: int = 8000
    key: str | None = None  # clients send it as "Authorization: Bearer KEY"
    model: str = "muomni"  # name of the model in requests and answers
    names: tuple[str, ...] = ()  # further names that requests may use; "*": any
    origins: tuple[str, ...] = ()  # web pages of other addresses that may call, as https://example.org
    hosts: tuple[str, ...] = ()  # further names of this machine in the Host header
    page: bool = True
    seed: int | None = None  # of requests that name none; None: another one for each

    slots: int = 8  # answers that are written at once
    max_queue: int = 64  # requests that wait for a slot; more are answered by 429
    speech_slots: int = 4
    look_ahead: int | None = None  # characters, of spoken answers; None: whole sentences
    jobs: int = 2  # transcripts, embeddings and media that are read at once
    prefill_chunk: int = 64

    max_connections: int = 256
    max_body: int = 32 * MIB  # bytes
    body_seconds: float = 60.0  # to receive a whole request
    request_seconds: float = 300.0  # to answer it
    max_images: int = 8
    max_pixels: int = 16_000_000  # of one image
    max_audio_seconds: float = 600.0  # of one recording
    max_characters: int = 100_000  # of all texts of a request
    max_new_tokens: int = 4096
    max_choices: int = 8
    max_sessions: int = 8  # of /v1/realtime
    vad: str = "energy"  # or silero: how turns are found
    grace: float = 10.0  # seconds in which running answers may end after SIGTERM

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type in (int, float) and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"{field.name}={value}: a number is needed")
            if field.type is int and (not isinstance(value, int) or value < (0 if field.name == "port" else 1)):
                raise ValueError(f"{field.name}={value}: a whole number, at least 1, is needed")
            if field.type is float and not 0 < value < float("inf"):
                raise ValueError(f"{field.name}={value}: a number above 0 is needed")
        if self.seed is not None and (type(self.seed) is not int or not 0 <= self.seed <= MAX_SEED):
            raise ValueError(f"generation.seed={self.seed}: a whole number from 0 to 2 ** 62 is needed, or null")
        for origin in self.origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or origin != f"{parts.scheme}://{parts.netloc}".lower():
                raise ValueError(f"origins=[{origin}]: browsers name pages as https://example.org, without a path")
        check_look_ahead(self.look_ahead)
        if self.vad not in ("energy", "silero"):
            raise ValueError(f"vad={self.vad}: energy or silero")
        if self.port > 65535:
            raise ValueError(f"port={self.port}: at most 65535")
        if self.key is not None and (len(self.key) < 8 or not self.key.isascii() or any(c.isspace() for c in self.key)):
            raise ValueError("key=: at least 8 ASCII characters without spaces are needed")
        if self.key is None and not self.is_local:
            raise ValueError(
                f"host={self.host}: other machines could use this server: set a key, MUOMNI_KEY=... or key=..., or host=127.0.0.1"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    def answers_to(self, name: str) -> bool:
        """Whether requests may call the model so."""
        return name == self.model or name in self.names or ANY_NAME in self.names
