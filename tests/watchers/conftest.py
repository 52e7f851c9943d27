from tests.operations.conftest import hub as hub
