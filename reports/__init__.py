"""How results are shown: terminal table, charts, comparison page, Allure report."""
