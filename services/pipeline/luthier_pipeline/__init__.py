"""The command `luthier`: drives every service, resumably."""
