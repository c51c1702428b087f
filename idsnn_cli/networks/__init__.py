"""The families of networks, one folder or file each: a description that names no library, and the modules it builds."""
