"""The processes of a balancer: what each one runs, and how it starts, communicates and stops."""
