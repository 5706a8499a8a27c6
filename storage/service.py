"""What one running service holds: its settings, its database, its bucket, its presigner."""

from __future__ import annotations

from .bucket import Bucket
from .models import migrate, open_database
from .presign import Presigner
from .settings import Settings


class Service:
    """Made once for each application; the rules take it as their first argument. Opens no connection."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.database = open_database(settings.database_url)
        self.bucket = Bucket(settings)
        self.presigner = Presigner(
            settings.s3_public_endpoint or settings.s3_endpoint,
            settings.s3_bucket,
            self.bucket.credentials,
            settings.s3_region,
            settings.s3_addressing,
        )

    def prepare(self) -> list[str]:
        """Create what is missing: tables and bucket. Returns a sentence for each thing done."""
        done = [f"Applied migration {name}." for name in migrate(self.database)]
        if self.bucket.ensure():
            done.append(f"Created bucket {self.bucket.name}.")
        return done

    def sql(self, statement: str) -> str:
        """`statement` (written with `?`) in the database's own parameter style."""
        return statement if self.database.param == "?" else statement.replace("?", self.database.param)
