"""The data sets: one file each, found by its name, which is the word in ``data.dataset`` and ``--data``.

A file holds one :class:`~idsnn_cli.data.source.DataSet`: what it needs of the recipe's section, how it is planned and
opened. What computes is imported inside its functions, so that a recipe can be checked without torch.
"""
