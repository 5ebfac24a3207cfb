from typing import Any

# subclasses of what the libraries have, which need not be installed
AiohttpWorker: type[Any]
UvicornWorker: type[Any]
