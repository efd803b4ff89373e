"""Share what every kernel needs: choice of backend, operators, launches."""
