"""Tests of a method, for those of the package and for a user's own:

test_contract = contract_tests("./ewc.py:EWC", {"strength": 100.0}, beside=Path(__file__).parent)
"""

from seekr_tune.testing.contract import TOLERANCES, check_method, contract_tests

__all__ = ["TOLERANCES", "check_method", "contract_tests"]
