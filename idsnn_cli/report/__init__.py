"""Results as plain dictionaries, ready to be printed or written as JSON.

``contents`` (one checkpoint), ``comparison`` (two), ``mapping`` (where first weights came from) and ``doctor`` (the
installation and the machine). Nothing is imported here, for ``doctor`` must run where torch does not.
"""
