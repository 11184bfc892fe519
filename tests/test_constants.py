from polygene_scverse import _constants as c


def test_result_keys():
    """Where the documentation says that results are."""
    assert c.prediction_key("cell_type") == "polygene_cell_type"
    assert c.confidence_key("cell_type") == "polygene_cell_type_confidence"
    assert c.probability_key("cell_type") == "polygene_cell_type_proba"
    assert c.EMBEDDING == "X_polygene"
    assert c.JOINT == "polygene_joint"
    assert c.filled_key("sex") == "polygene_sex_filled"
    assert c.filled_probability_key("sex") == "polygene_sex_filled_probability"
    assert c.audit_key("sex") == "polygene_audit_sex"
    assert c.gene_states_key(c.GENE_INTERACTIONS) == "polygene_gene_interactions_states"
    assert c.gene_cells_key(c.GENE_INTERACTIONS) == "polygene_gene_interactions_n_cells"


def test_aliases_cover_the_names_of_cellxgene_and_belong_to_one_phenotype():
    names = [name for row in c.PHENOTYPE_ALIASES.values() for name in row]
    assert {"sex", "tissue", "cell_type", "development_stage", "age", "disease", "bulk_labels", "phase"} <= set(names)
    assert len(set(names)) == len(names)


def test_missing_words_are_in_lower_case():
    """They are compared with labels in lower case. Empty text is no word: it is missing whatever the words are."""
    assert {"unknown", "n/a"} <= c.MISSING_WORDS
    assert {"none", "na"} <= c.DOUBTFUL_WORDS
    assert not c.MISSING_WORDS & c.DOUBTFUL_WORDS
    assert all(word == word.lower().strip() != "" for word in c.MISSING_WORDS | c.DOUBTFUL_WORDS)


def test_keys_of_what_is_written_when_asked():
    assert c.set_key("cell_type") == "polygene_cell_type_set"
    assert c.expected_key("age") == "polygene_age_expected"
    assert c.NOVELTY == "polygene_novelty"
