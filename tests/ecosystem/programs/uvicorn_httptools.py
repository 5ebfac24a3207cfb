"""uvicorn with httptools, in this process."""

from tests.ecosystem.programs.uvicorn_h11 import serve
from tests.ecosystem.support import run


async def main():
    await serve("httptools")


if __name__ == "__main__":
    run(main)
