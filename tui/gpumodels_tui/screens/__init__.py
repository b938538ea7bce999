"""The screens: each composes widgets, binds keys and passes the view on to its widgets."""
