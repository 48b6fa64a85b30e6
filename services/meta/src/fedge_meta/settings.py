"""Settings of meta."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from fedge_service import EdgeSettings, ServiceSettings


class MetaSettings(ServiceSettings):
    """``FEDGE_META_<FIELD>``, and what all edge services share."""

    model_config = SettingsConfigDict(env_prefix="FEDGE_META_")

    digest_seconds: float = Field(default=300.0, gt=0)
    """How often meta tells hub a hash of what it has, unasked, so that whatever went wrong unseen
    is mended. A shorter time costs the link, a longer one leaves a difference longer."""

    edge: EdgeSettings = Field(default_factory=EdgeSettings)
    """What the services of one edge share."""
