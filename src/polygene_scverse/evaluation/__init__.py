"""The model beside baselines, on cells of groups that none of them has seen."""
