"""`python -m validation soak`: both balancers under load for hours, while engines fail."""
