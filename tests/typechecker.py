"""The run-time check of annotations: as static checkers read them, an int is a float."""

import beartype

check = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))
