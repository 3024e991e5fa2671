create table read_uploads as
select row_number() over () as id, * exclude (received_time, uptime_s, device_gen, extras),
       received_time as received
from decoded;
