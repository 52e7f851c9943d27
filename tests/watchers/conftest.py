from tests.operations.conftest import hub as hub
from tests.operations.conftest import hub_url as hub_url
