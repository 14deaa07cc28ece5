{{ config(materialized = 'table') }}
select *
from (
    values
        (1, 'Invoice', 'I was charged twice this month.', timestamp '2026-11-01 09:00'),
        (2, 'Export', 'The export button does nothing since the update.', timestamp '2026-11-02 10:30'),
        (3, 'Colleagues', 'How do I add a colleague to my team?', timestamp '2026-11-03 14:45')
) as tickets (ticket_id, subject, body, updated_at)
