raise RuntimeError("this module\nfails")
