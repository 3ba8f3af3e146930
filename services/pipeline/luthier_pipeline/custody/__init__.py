"""What came from what: sweeping what nothing reaches, taking down what must go, walking back from any file."""
