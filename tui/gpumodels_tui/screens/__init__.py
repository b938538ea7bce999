"""The screens: each composes widgets, binds keys and hands the view down."""
