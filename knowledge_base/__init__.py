"""Documents in, permitted passages out. Imports none of our other packages."""
