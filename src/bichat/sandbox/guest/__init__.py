"""What runs beside guest code, inside the sandbox: nothing here is trusted by anything outside."""
