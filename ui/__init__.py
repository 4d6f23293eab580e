"""Every face of the product: command line, HTTP, chat, compare, admin, ops. The only composition root."""
