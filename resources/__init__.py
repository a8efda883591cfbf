"""Reserve the name of the bookable resources' app; its rooms arrive with bookings."""
