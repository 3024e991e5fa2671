-- Rule 2: identical samples of one upload dropped, the rest numbered by device time.
create table raw_samples as
select message_id, device, s.ts as ts, s as fields, place
from (
    select message_id, device, unnest(data) as s, generate_subscripts(data, 1) as place
    from uploads where counts
);

create table samples as
select * exclude (copy),
       (row_number() over (partition by message_id order by ts, place) - 1)::integer as sample_idx
from (
    select *, row_number() over (partition by message_id, fields order by place) as copy
    from raw_samples
)
where copy = 1;
