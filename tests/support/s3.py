"""An S3 store on this machine, as far as moto has one; credentials come from the environment."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import s3fs  # type: ignore[import-untyped]
from moto.server import ThreadedMotoServer

BUCKET = "clips"


@contextmanager
def s3_server() -> Iterator[str]:
    """A store with an empty bucket; yields its address, and sets the environment to use it."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    httpx.post(f"{endpoint}/moto-api/reset").raise_for_status()  # its stores outlive a server
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            environment.delenv(name)  # a profile, a role or a session of this machine's
        environment.setenv("AWS_ACCESS_KEY_ID", "tester")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_ENDPOINT_URL", endpoint)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir(BUCKET)
        try:
            yield endpoint
        finally:
            server.stop()
