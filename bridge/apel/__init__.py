"""Usage records as EGI's accounting reads them, in a directory from which `ssmsend` takes them."""
