"""What tests of the room share."""

import numpy as np
import pytest

from polygene_scverse._layout import TokenLayout
from polygene_scverse.data.feed._table import CellTable
from polygene_scverse.data.read._expression import Expression
from polygene_scverse.data.read._phenotypes import categories_of, encode_all
from polygene_scverse.data.read._scale import COUNTS
from polygene_scverse.data.read._tokens import Tokenizer

KEYS = ["cell_type", "sex"]


@pytest.fixture
def table(simulated):
    """Cells of the data set in another order, with their row numbers as ids."""
    categories = {key: categories_of(simulated.obs[key]) for key in KEYS}
    layout = TokenLayout.build(categories, list(simulated.var_names), 5)
    ids = np.random.default_rng(0).permutation(300)[:101]
    tokenizer = Tokenizer.match(layout.genes, simulated.var_names, COUNTS, np.array([0, 1e-9, 5.0, 5.5, 6.0]))
    codes, _ = encode_all(simulated.obs.iloc[ids], categories)
    return CellTable(tokenizer.read(Expression.of(simulated), ids), codes, ids, layout, tokenizer.measured)
