"""Services: their methods, where those come from, and the stubs and servicers made of them."""
