"""Ready-made mappings of known systems: APIs as settings of a REST source, ERP systems as select statements."""
