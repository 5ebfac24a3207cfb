from dataclasses import dataclass

OTHER_LOOPS: tuple[str, ...]

@dataclass(frozen=True)
class Holder:
    module: str
    name: str
    original: str
    derived: bool = False

def holders() -> list[Holder]: ...
def problems() -> list[str]: ...
def report() -> str: ...
def main(modules: list[str]) -> int: ...
