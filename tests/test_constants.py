from polygene_scverse import _constants as c


def test_result_keys():
    """Where the documentation says that results are."""
    assert c.prediction_key("cell_type") == "polygene_cell_type"
    assert c.confidence_key("cell_type") == "polygene_cell_type_confidence"
    assert c.probability_key("cell_type") == "polygene_cell_type_proba"
    assert c.EMBEDDING == "X_polygene"


def test_aliases_cover_the_names_of_cellxgene_and_belong_to_one_phenotype():
    names = [name for row in c.PHENOTYPE_ALIASES.values() for name in row]
    assert {"sex", "tissue", "cell_type", "development_stage", "age", "disease", "bulk_labels", "phase"} <= set(names)
    assert len(set(names)) == len(names)


def test_missing_words_are_in_lower_case():
    """They are compared with labels in lower case."""
    assert {"", "unknown", "na"} <= c.MISSING_WORDS
    assert all(word == word.lower().strip() for word in c.MISSING_WORDS)
