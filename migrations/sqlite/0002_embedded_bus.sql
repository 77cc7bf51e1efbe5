-- placeholder, replaced by the bus work
SELECT 1;
