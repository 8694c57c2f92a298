"""Being here, this file puts tests/ on the import path: tests share modules from it."""
