"""The routes of older systems: paths and words of theirs, operations of ours. One module per system, so that each can
go when its last client has."""
