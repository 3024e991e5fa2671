-- Rules 1 and 5: lines to uploads, message identity, the first by (received, object, line) counts.
create table lines as
select
    regexp_replace(replace(filename, chr(92), '/'), '^.*/topics/', '') as object,
    row_number() over (partition by filename order by file_row_number) - 1 as line,
    u.*
from (
    select *, row_number() over () as file_row_number
    from read_json(
        getvariable('archive') || '/topics/message-gps/*/*/*/*/*.json.gz',
        format = 'newline_delimited', compression = 'gzip', filename = true,
        columns = {
            device_no: 'VARCHAR', type: 'VARCHAR', fw: 'VARCHAR', boot: 'INTEGER', seq: 'BIGINT',
            up: 'BIGINT', timestamp: 'VARCHAR',
            data: 'STRUCT(ts BIGINT, lat DOUBLE, lon DOUBLE, fix INTEGER, alt DOUBLE, sp DOUBLE,
                          hd DOUBLE, dop DOUBLE, acc DOUBLE, nos INTEGER)[]'
        }
    )
) u;

create table uploads as
with decoded as (
    select
        object, line, boot, seq, up, data,
        upper(trim(device_no)) as device,
        split_part(object, '+', 2)::integer as part,
        regexp_extract(object, '/(\d{4})/(\d\d)/(\d\d)/(\d\d)/', 1)
            || regexp_extract(object, '/(\d{4})/(\d\d)/(\d\d)/(\d\d)/', 2)
            || regexp_extract(object, '/(\d{4})/(\d\d)/(\d\d)/(\d\d)/', 3)
            || regexp_extract(object, '/(\d{4})/(\d\d)/(\d\d)/(\d\d)/', 4) as arrival_hour,
        epoch_ms(regexp_replace(regexp_replace(timestamp, '(GMT|UTC|Z)$', '+00'), 'KST$', '+09')
                 ::timestamptz) as received,
        case when type is distinct from 'gps' or boot is null or seq is null or timestamp is null
                  or trim(coalesce(device_no, '')) = '' or coalesce(len(data), 0) not between 1 and 600
                  or len(list_filter(data, lambda s: s.ts is null)) > 0
             then error('outside this oracle: ' || object || ' line ' || line) end as refused
    from lines
),
named as (
    select *, left(sha256(device || '|gps|' || boot || '|' || seq), 32) as message_id from decoded
)
select
    * exclude (refused),
    row_number() over (partition by message_id order by received, object, line) = 1 as counts,
    count(distinct {up: up, data: data}) over (partition by message_id) > 1 as dup_diff
from named
where refused is null;
