"""Write instants to the second with their zone, so that nobody has to guess it."""

DATETIME_FORMAT = "Y-m-d H:i:s e"
DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i:s"
THOUSAND_SEPARATOR = ","
